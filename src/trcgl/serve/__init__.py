"""`trcgl serve`: one model behind a page and an HTTP interface, on one machine.

`app` has the routes, `guards` checks who may send requests, `body` reads uploads, `decoding` decodes them in separate
processes, `batching` scores them in batches, and `launch` binds the address. No upload is stored.

Studies by DICOM or in a folder: `dicom_node` and `watch` receive them, `studies` takes complete ones, `study_answer`
scores them, `forward` sends the answers on, `spool` holds what waits, and `node` starts all of them.
"""
