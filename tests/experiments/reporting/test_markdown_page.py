def test_a_row_shows_value_and_interval(markdown):
    assert "| arcface m=0.5 s=32 | 3 |" in markdown
    assert "| **81.00** ± 2.48 |" in markdown
    assert "| 79.00 [76.00, 81.00] |" in markdown


def test_text_of_a_run_cannot_break_a_table(markdown):
    assert "m3=0.15 &lt;b&gt;refused&lt;/b&gt; \\| here" in markdown
    assert "<b>refused" not in markdown
