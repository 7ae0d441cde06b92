//! gRPC methods whose answers are encoded already: their bytes go out as they are, so that many subscribers share one encoding, and
//! a stream that has nothing to say keeps none.

use axum::{
    Router,
    body::{self, Body},
    extract,
    http::{HeaderMap, HeaderValue, header::CONTENT_TYPE},
    response::Response,
    routing::post,
};
use bytes::{Buf, Bytes};
use futures_util::{Stream, StreamExt, stream};
use http_body_util::StreamBody;
use hyper::body::Frame;
use prost::Message;
use std::{convert::Infallible, future::ready};
use tonic::{Request, Status, metadata::GRPC_CONTENT_TYPE};

/// Questions are names.
const MAX_REQUEST_BYTES: usize = 64 << 10;
/// Before a message on the wire: whether it is compressed, and how long it is.
const PREFIX_BYTES: usize = 5;

/// A method that answers once. `path` is `/package.Service/Method`.
pub fn unary<R, F>(path: &str, answer: F) -> Router
where
    R: Message + Default + 'static,
    F: Fn(Request<R>) -> Result<Bytes, Status> + Clone + Send + Sync + 'static,
{
    streaming(path, move |request| answer(request).map(|message| stream::once(ready(message))))
}

/// A method that answers with a stream. An item is a message as [`super::encode::wire`] writes it, or several at once.
pub fn streaming<R, S, F>(path: &str, answer: F) -> Router
where
    R: Message + Default + 'static,
    S: Stream<Item = Bytes> + Send + 'static,
    F: Fn(Request<R>) -> Result<S, Status> + Clone + Send + Sync + 'static,
{
    let method = async |request: extract::Request| match read(request).await.and_then(answer) {
        Ok(messages) => respond(messages),
        Err(status) => status.into_http(),
    };
    Router::new().route(path, post(method))
}

/// The one message of a request.
async fn read<R: Message + Default>(request: extract::Request) -> Result<Request<R>, Status> {
    let (head, body) = request.into_parts();
    let limit = PREFIX_BYTES + MAX_REQUEST_BYTES;
    let mut bytes = body::to_bytes(body, limit)
        .await
        .map_err(|error| Status::out_of_range(format!("want at most {MAX_REQUEST_BYTES} bytes: {error}")))?;
    let wrong = || Status::internal("want one message");
    let compressed = bytes.try_get_u8().map_err(|_| wrong())? != 0;
    if compressed {
        return Err(Status::unimplemented("compressed messages are not understood"));
    }
    let length = bytes.try_get_u32().map_err(|_| wrong())?;
    if usize::try_from(length) != Ok(bytes.len()) {
        return Err(wrong());
    }
    let message = R::decode(bytes).map_err(|error| Status::internal(error.to_string()))?;
    Ok(Request::from_http(http::Request::from_parts(head, message)))
}

fn respond(messages: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    // Made when they are due: most streams are open for as long as their proxy lives.
    let end = stream::once(async { Frame::trailers(ok()) });
    let frames = messages.map(Frame::data).chain(end).map(Ok::<_, Infallible>);
    let mut response = Response::new(Body::new(StreamBody::new(frames)));
    response.headers_mut().insert(CONTENT_TYPE, GRPC_CONTENT_TYPE);
    response
}

fn ok() -> HeaderMap {
    [(Status::GRPC_STATUS, HeaderValue::from_static("0"))].into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::encode;
    use http_body_util::BodyExt;
    use linkerd2_proxy_api::inbound::PortSpec;
    use tonic::Code;
    use tower_service::Service;

    /// What an echo makes of a request's bytes.
    async fn echo(request: Vec<u8>) -> Result<Bytes, Code> {
        let mut router =
            unary("/echo", |request: Request<PortSpec>| Ok(encode::wire(&[request.into_inner()])));
        let request = http::Request::post("/echo").body(Body::from(request)).unwrap();
        let response = router.call(request).await.unwrap();
        if let Some(refused) = Status::from_header_map(response.headers()) {
            return Err(refused.code());
        }
        let answer = response.into_body().collect().await.unwrap();
        let end = Status::from_header_map(answer.trailers().expect("trailers")).unwrap();
        assert_eq!(end.code(), Code::Ok);
        Ok(answer.to_bytes())
    }

    #[tokio::test]
    async fn a_request_is_one_message_and_nothing_else() {
        let message = encode::wire(&[PortSpec { workload: "shop:web".into(), port: 8080 }]);
        assert_eq!(echo(message.to_vec()).await.as_ref(), Ok(&message));
        let (short, twice) = (message[..7].to_vec(), [&message[..], &message[..]].concat());
        let mut compressed = message.to_vec();
        compressed[0] = 1;
        let long = PortSpec { workload: "x".repeat(MAX_REQUEST_BYTES), port: 1 };
        for (request, refused) in [
            (vec![], Code::Internal),
            (short, Code::Internal),
            (twice, Code::Internal),
            (b"\0\0\0\0\x02\xff\xff".to_vec(), Code::Internal),
            (compressed, Code::Unimplemented),
            (encode::wire(&[long]).to_vec(), Code::OutOfRange),
        ] {
            assert_eq!(echo(request.clone()).await, Err(refused), "{:?}", &request[..request.len().min(9)]);
        }
    }
}
