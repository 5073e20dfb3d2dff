"""Execute every notebook of this folder from top to bottom; the first error ends it. Nothing is written back."""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient


def main() -> int:
    """Run the notebooks in the order of their names, from the folder above."""
    folder = Path(__file__).resolve().parent
    for path in sorted(folder.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        stored = [cell.get("outputs") for cell in notebook.cells if cell.cell_type == "code"]
        if any(stored):
            print(f"{path.name}: outputs are stored; strip them before committing")
            return 1
        NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder.parent)}}).execute()
        print(f"{path.name}: {len(stored)} cells run")
    return 0


if __name__ == "__main__":
    sys.exit(main())
