"""Write the API's description: ``docs/openapi.json`` and ``docs/api/index.html`` (``make docs``)."""

from gjeldsbro_openapi import document, page


def main() -> None:
    """Write both files."""
    document.DOCUMENT.write_text(document.text(), encoding="utf-8")
    page.PAGE.parent.mkdir(exist_ok=True)
    page.PAGE.write_text(page.text(document.document()), encoding="utf-8")


if __name__ == "__main__":
    main()
