"""Is a drawn image faithful, novel and diverse? Every figure with its n, its interval and its null."""
