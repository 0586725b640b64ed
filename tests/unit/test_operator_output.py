"""What commands print, for people."""

from gjeldsbro_operator.output import Result, Shown, show


def test_names_are_printed_as_they_are(capsys) -> None:
    """Square brackets in titles and cells are somebody's name or reason, and no markup."""
    show(
        Result({}, [Shown("920013015 Bank [/b] AS", ("Who",), [("[red]Bank AS of a longer name",)])], ["[bold] it is"]),
        as_json=False,
    )
    printed = capsys.readouterr().out
    assert [word in printed for word in ("Bank [/b] AS", "[red]Bank AS of a longer name", "[bold] it is")] == [True] * 3
