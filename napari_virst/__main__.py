"""``python -m napari_virst`` is ``napari-virst``."""

from napari_virst.cli.main import run

if __name__ == "__main__":
    run()
