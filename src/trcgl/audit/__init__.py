"""Is a drawn image faithful, novel and diverse?"""
