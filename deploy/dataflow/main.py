"""What the launcher of the flex template runs."""

import sys

from pipeline.dataflow.template import launch

if __name__ == "__main__":
    sys.exit(launch(sys.argv[1:]))
