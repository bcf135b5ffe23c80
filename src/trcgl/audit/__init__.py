"""Is a drawn image faithful, novel, diverse? Every answer has an n, an interval and the null of real against real."""
