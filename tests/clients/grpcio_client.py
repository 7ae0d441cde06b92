"""grpcio through the proxy's CONNECT, as it does by itself when http_proxy is set; and straight to the proxy's address."""
import sys

import grpc

options = [("grpc.enable_http_proxy", 1)] if sys.argv[1] == "tunnel" else [("grpc.default_authority", "web:8080"), ("grpc.enable_http_proxy", 0)]
target = "web:8080" if sys.argv[1] == "tunnel" else sys.argv[2]


def same(message):
    return message


with grpc.insecure_channel(target, options=options) as channel:
    unary = channel.unary_unary("/echo/unary", request_serializer=same, response_deserializer=same)
    print("unary", unary(b"hello", timeout=15))
    large = unary(b"l" * 314159, timeout=15)
    print("large", len(large))
    stream = channel.stream_stream("/echo/stream", request_serializer=same, response_deserializer=same)
    print("stream", b",".join(stream(iter([b"a", b"b", b"c"]), timeout=15)))
    missing = channel.unary_unary("/status/404", request_serializer=same, response_deserializer=same)
    try:
        missing(b"", timeout=15)
        print("missing answered")
    except grpc.RpcError as error:
        print("missing", error.code().name)
