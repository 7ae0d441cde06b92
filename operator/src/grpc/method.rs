//! gRPC methods whose answers are encoded already, so that many subscribers share one encoding.

use super::topics::Answers;
use axum::{Router, extract, routing::post};
use bytes::{BufMut, Bytes};
use prost::Message;
use std::{
    future::{Ready, ready},
    marker::PhantomData,
};
use tonic::{
    Request, Response, Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::{Grpc, ServerStreamingService, UnaryService},
};

/// Questions are names.
const MAX_REQUEST_BYTES: usize = 64 << 10;
/// Every stream owns a buffer of this size for as long as it is open; a longer message is given a longer one for its time.
const BUFFER_BYTES: usize = 256;
/// As many bytes of messages that are ready become one frame.
const FRAME_BYTES: usize = 32 << 10;

/// A method that answers once. `path` is `/package.Service/Method`.
pub fn unary<R, F>(path: &str, answer: F) -> Router
where
    R: Message + Default + 'static,
    F: Fn(Request<R>) -> Result<Bytes, Status> + Clone + Send + Sync + 'static,
{
    let method = async |request: extract::Request| grpc::<R>().unary(Call(answer), request).await;
    Router::new().route(path, post(method))
}

/// A method that answers with a stream.
pub fn streaming<R, F>(path: &str, answer: F) -> Router
where
    R: Message + Default + 'static,
    F: Fn(Request<R>) -> Result<Answers, Status> + Clone + Send + Sync + 'static,
{
    let method = async |request: extract::Request| grpc::<R>().server_streaming(Call(answer), request).await;
    Router::new().route(path, post(method))
}

fn grpc<R: Message + Default + 'static>() -> Grpc<Encoded<R>> {
    Grpc::new(Encoded(PhantomData)).max_decoding_message_size(MAX_REQUEST_BYTES)
}

struct Call<F>(F);

impl<R, F: Fn(Request<R>) -> Result<Bytes, Status>> UnaryService<R> for Call<F> {
    type Response = Bytes;
    type Future = Ready<Result<Response<Bytes>, Status>>;

    fn call(&mut self, request: Request<R>) -> Self::Future {
        ready((self.0)(request).map(Response::new))
    }
}

impl<R, F: Fn(Request<R>) -> Result<Answers, Status>> ServerStreamingService<R> for Call<F> {
    type Response = Bytes;
    type ResponseStream = Answers;
    type Future = Ready<Result<Response<Answers>, Status>>;

    fn call(&mut self, request: Request<R>) -> Self::Future {
        ready((self.0)(request).map(Response::new))
    }
}

/// Reads requests of one type; writes bytes as they are.
struct Encoded<R>(PhantomData<R>);

impl<R: Message + Default + 'static> Codec for Encoded<R> {
    type Encode = Bytes;
    type Decode = R;
    type Encoder = AsIs;
    type Decoder = Encoded<R>;

    fn encoder(&mut self) -> AsIs {
        AsIs
    }

    fn decoder(&mut self) -> Encoded<R> {
        Encoded(PhantomData)
    }
}

impl<R: Message + Default + 'static> Decoder for Encoded<R> {
    type Item = R;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<R>, Status> {
        R::decode(bytes).map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

struct AsIs;

impl Encoder for AsIs {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(message);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, FRAME_BYTES)
    }
}
