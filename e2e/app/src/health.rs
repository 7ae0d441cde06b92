//! What kubelet asks of a server that has a gRPC probe: `grpc.health.v1.Health/Check`. Every server of ours is well.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{
    HeaderMap, Response,
    header::{CONTENT_TYPE, HeaderValue},
};
use std::{convert::Infallible, future};

pub const CHECK: &str = "/grpc.health.v1.Health/Check";

/// gRPC's prefix, not compressed and two bytes long; then the message, whose field 1, `status`, is 1, `SERVING`.
const SERVING: [u8; 7] = [0, 0, 0, 0, 2, 0x08, 1];

pub fn serving() -> Response<BoxBody<Bytes, Infallible>> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let message = Full::new(Bytes::from_static(&SERVING)).with_trailers(future::ready(Some(Ok(trailers))));
    let mut response = Response::new(message.boxed());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}
