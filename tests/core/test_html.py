import re
from html.parser import HTMLParser

import pytest
from markupsafe import Markup
from matplotlib.figure import Figure

from tests.pages import assert_fits
from trcgl.core import html


def contrast(color, background):
    def luminance(color):
        parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(color), luminance(background)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("name", ["ink", "muted", "head", "medium", "tail", "plain"])
def test_text_reaches_the_contrast_of_wcag_aa_in_both_schemes(name):
    for color, background in zip(html.PALETTE[name], html.PALETTE["card"], strict=True):
        assert contrast(color, background) >= 4.5


def test_a_page_is_whole_escapes_its_title_and_needs_nothing_from_outside():
    page = html.page("A < B", "<p>body</p>", subtitle="x & y", sections=[("one", "First")])
    assert "A &lt; B" in page and "x &amp; y" in page and "<p>body</p>" in page and 'href="#one"' in page
    assert not re.search(r'(src|href)="(https?:)?//', page) and "@import" not in page
    HTMLParser().feed(page)


def test_a_page_says_that_it_is_for_research_and_when_it_shows_phantoms():
    assert "Research use only" in html.page("t", "") and "Phantoms" not in html.page("t", "")
    assert "Research use only" not in html.page("t", "", notice=False)
    assert "Phantoms, not patients" in html.page("t", "", phantom=True)


def picture(width=2):
    with html.house_style():
        figure = Figure(figsize=(width, 1))
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=html.GROUP_COLORS["tail"])
        axes.text(0.5, 0.5, "fixed", color=html.ON_LIGHT)
    return figure


def test_a_figure_follows_the_scheme_of_its_page_and_is_described():
    svg = html.figure_svg(picture(), 'a "line"')
    assert svg.startswith("<svg ") and 'role="img"' in svg and 'aria-label="a &#34;line&#34;"' in svg
    assert "stroke: var(--tail)" in svg and html.PALETTE["tail"][0] not in svg
    assert html.ON_LIGHT in svg, "ink on a fixed color must not change with the scheme"


def test_two_figures_on_one_page_share_no_group_id():
    assert not re.search(r'id="(figure|axes)_1"', html.figure_svg(picture(), "x"))


def test_the_same_figure_is_the_same_bytes():
    assert html.svg_text(picture()) == html.svg_text(picture())


def test_the_lead_stands_above_the_notice_and_is_escaped():
    page = html.page("t", "", lead="2 of 3 findings < 1 %.")
    assert page.index("2 of 3 findings &lt; 1 %.") < page.index("Research use only")
    assert 'class="lead"' not in html.page("t", "")


def test_a_table_escapes_its_cells_groups_digits_and_scrolls_in_its_own_box():
    table = html.table(("finding", "images"), [("A & B", 12345), (Markup("<b>C</b>"), "<none>")], caption="Counts")
    assert table.startswith('<div class="scroll" tabindex="0" role="region" aria-label="Counts"><table>')
    assert '<th scope="row">A &amp; B</th><td class="number">12,345</td>' in table
    assert '<th scope="row"><b>C</b></th><td>&lt;none&gt;</td>' in table


def test_a_page_with_a_wide_table_and_a_wide_figure_fits_a_phone_in_both_schemes(tmp_path):
    columns = [f"a wide column {place}" for place in range(20)]
    body = html.table(columns, [columns]) + html.figure(picture(width=14), "a line", "Caption.")
    body += "<p><code>" + "trcgl-train-" * 20 + "</code></p>"
    path = tmp_path / "page.html"
    path.write_text(html.page("A title", body, lead="What was found.", phantom=True), encoding="utf-8")
    assert_fits(path)
