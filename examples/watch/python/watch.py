# Keeps a cache up to date: drops sessions that end or change, and resumes after the stream breaks or the process restarts.
#
# pip install -r requirements.txt; then, in the folder proto/, and with OUT on PYTHONPATH:
# python -m grpc_tools.protoc -I. -Ithird_party --python_out=OUT --grpc_python_out=OUT session/v1/*.proto \
#   buf/validate/validate.proto

import os, random, sys, time
import grpc
from session.v1.watch_pb2 import WatchInvalidationsRequest
from session.v1.session_service_pb2_grpc import SessionServiceStub

address, position_file = (sys.argv[1:] + ["localhost:50051", "position"][len(sys.argv) - 1 :])[:2]
channel = grpc.insecure_channel(address, [("grpc.keepalive_time_ms", 10000), ("grpc.max_reconnect_backoff_ms", 5000)])
cache = {}
position = open(position_file).read() if os.path.exists(position_file) else ""
delay = 0.1

while True:
    try:
        request = WatchInvalidationsRequest(resume_position=position)
        for message in SessionServiceStub(channel).WatchInvalidations(request, wait_for_ready=True):
            delay = 0.1
            event = message.WhichOneof("event")
            if event == "invalidation":
                cache.pop(message.invalidation.session_id, None)
                print("invalidated", message.invalidation.session_id, flush=True)
            elif event == "reset":
                cache.clear()
                print("reset", flush=True)
            elif event is not None and getattr(message, event).position:
                # Opened, or a checkpoint of a new position: every change before it has been handled, so its position may be saved now, and not earlier.
                position = getattr(message, event).position
                with open(position_file + ".new", "w") as file:
                    file.write(position)
                os.replace(position_file + ".new", position_file)
    except grpc.RpcError as error:
        print(error.code(), error.details(), file=sys.stderr)
        # The service does not accept this position any more: start from now, as after a reset.
        if error.code() == grpc.StatusCode.INVALID_ARGUMENT:
            position = ""
            cache.clear()
            print("reset", flush=True)
    time.sleep(delay * (0.5 + random.random()))
    delay = min(delay * 2, 5)
