"""`trcgl serve`: a model behind one page and one HTTP interface, on one machine.

`app` answers; `guards` says who may ask, `body` reads what they send, `decoding` decodes it in other processes,
`batching` scores what came together, and `launch` binds the address. Nothing that is sent is kept.
"""
