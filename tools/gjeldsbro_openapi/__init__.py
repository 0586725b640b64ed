"""The API's description, ``make docs``: an OpenAPI document made from the handlers, and a page made from that."""
