"""Python requests behind http_proxy. Prints one line per exchange; the story compares them."""
import requests

base = "http://web:8080"
session = requests.Session()
for _ in range(3):
    print("get", session.get(base + "/").status_code)
posted = session.post(base + "/echo", data=b"x" * 100_000)
print("post", posted.status_code, len(posted.content))


def pieces():
    for _ in range(10):
        yield b"piece"


print("chunked", session.post(base + "/echo", data=pieces()).text == "piece" * 10)
print("head", session.head(base + "/").headers["content-length"])
with session.get(base + "/bytes/3000000", stream=True) as streamed:
    print("stream", sum(len(piece) for piece in streamed.iter_content(65536)))
print("missing", session.get(base + "/status/404").status_code)
