"""Is a drawn image faithful, novel and diverse? Every answer has an n, an interval and the null of real against real."""
