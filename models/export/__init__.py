"""The torch side: from a pretrained checkpoint to one verified ONNX artefact. Workers never import it."""
