"""Run the command line with ``python -m qubx_lighter``."""

from qubx_lighter.cli import main

if __name__ == "__main__":
    main(prog_name="qubx-lighter")
