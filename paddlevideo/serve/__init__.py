"""The HTTP service: uploads become classes and timelines, and a page to try it (extra `serve`).

    request --receive--> file --worker process--> sample --batch--> network --> response

Decoders are C code that reads the bytes of strangers. So they run in processes of their own: one
that crashes, hangs or asks for all memory costs its own request, and is replaced. Preprocessing is
that of the `Predictor`, and so are the scores.
"""
