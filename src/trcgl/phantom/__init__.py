"""Chest radiographs drawn by a program, with every finding of PadChest-30 and the truth about it.

`draw` turns a `PhantomSpec` into a picture: `anatomy` and `chest` make the thorax, `findings` change it, `film` exposes
it. `labels` and `patients` decide who has what. `trcgl.dataset.sources.phantom` makes a dataset of them.
"""
