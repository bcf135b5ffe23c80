"""Chest radiographs rendered by a program, with any finding of PadChest-30 and its true mask.

`render` turns a `PhantomSpec` into an image: `anatomy` and `chest` make the thorax, `findings` change it, `film`
exposes it. `labels` chooses label sets and patients. `trcgl.dataset.sources.phantom` makes datasets.
"""
