"""Settings: documented completely, absolute where it matters. Run as a module, this writes docs/settings.md."""

from pathlib import Path

from chart_platform.settings import Settings

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"


def page() -> str:
    lines = [
        "# Settings",
        "",
        "Every setting is an environment variable; the defaults run everything on embedded parts.",
        "",
        "| Variable | Default | Meaning |",
        "|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        default = f"`{field.default}`" if field.default not in (None, "") else "—"
        lines.append(f"| `CHART_{name.upper()}` | {default} | {field.description or ''} |")
    return "\n".join(lines) + "\n"


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_the_settings_page_is_what_the_settings_say() -> None:
    assert PAGE.read_text() == page(), "python -m chart_platform_tests.test_settings writes it"


def test_all_processes_of_an_instance_mean_the_same_folder(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings(home=Path("here"))
    assert settings.root == tmp_path / "here"
    assert settings.warehouse_url == f"file://{tmp_path}/here/warehouse"


if __name__ == "__main__":
    PAGE.write_text(page())
