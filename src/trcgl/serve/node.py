"""The parts that receive, score and forward studies beside the HTTP interface, started and stopped together."""

import logging
from contextlib import ExitStack

from trcgl.serve.dicom_node import RECEIVED, DicomNode, Received
from trcgl.serve.engine import TrainedNetwork
from trcgl.serve.forward import OUTBOX, Forwarder
from trcgl.serve.options import MIB, NodeOptions
from trcgl.serve.service import Service
from trcgl.serve.spool import Spool
from trcgl.serve.studies import Source, Studies
from trcgl.serve.study_answer import StudyScorer
from trcgl.serve.watch import Watched

_log = logging.getLogger("trcgl.serve")


class Node:
    """Everything that handles studies; running once it is constructed.

    Raises:
        DataError: the DICOM port, the spool or the watched folder cannot be used.
    """

    def __init__(self, service: Service, network: TrainedNetwork, options: NodeOptions) -> None:
        self.dicom_port: int | None = None
        """The port that is listened on."""
        with ExitStack() as parts:
            spool = Spool(options.spool, largest_bytes=options.spool_mib * MIB, largest_files=options.spool_files)
            parts.callback(spool.close)
            parts.callback(_say_left, spool)
            service.metrics.spool_files.set_function(lambda: spool.count)
            send, sources = None, list[Source]()
            if options.destination is not None:
                forwarder = Forwarder(spool, service.metrics, options)
                parts.callback(forwarder.close)
                send = forwarder.put
            if options.watch is not None:
                sources.append(Watched(options.watch, spool, options.quiet_seconds))
            received = Received(spool, options.quiet_seconds, options.keep)
            sources.append(received)
            studies = Studies(sources, StudyScorer(service, network, options.maps), service.metrics, options.out, send)
            parts.callback(studies.close)
            if options.dicom_port is not None:
                dicom = DicomNode(options, received.put, service.limits.bytes)
                parts.callback(dicom.close)
                self.dicom_port = dicom.port
            self._parts = parts.pop_all()

    def close(self) -> None:
        """Stop to receive, finish the study in work, stop to send, and say what is left."""
        self._parts.close()


def _say_left(spool: Spool) -> None:
    studies, answers = len(spool.waiting(RECEIVED)), len(spool.waiting(OUTBOX))
    if studies or answers:
        where = "wait in the spool for the next start" if spool.lasting else "are lost; --spool FOLDER would keep them"
        _log.warning("%d received files and %d answers %s", studies, answers, where)
