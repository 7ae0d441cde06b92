//! How much of what is asked is in memory at a time. Anybody in the cluster can reach this port, and nothing tells the API server's
//! questions from others': so each is counted before it is read, by what its text may become, and those that find no room wait.

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse, Response},
};
use http_body_util::BodyExt;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time,
};

/// The API server keeps no object of more than 1.5 MB, and a review may hold two.
pub const MAX_BYTES: usize = 4 << 20;
/// Objects, lists and their members: a large Pod has some thousands.
const MAX_VALUES: usize = 40_000;
/// What one of these takes at most while it is looked at, as a value of any kind and as a part of what it says it is.
const VALUE_BYTES: usize = 1_500;
/// For all together.
const ROOM_BYTES: usize = 96 << 20;
/// The API server sends a question whole. Who waits for room longer is better served by another replica.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Clone, Debug)]
pub struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Room {
        Room(Arc::new(Semaphore::new(ROOM_BYTES)))
    }
}

/// Around every question: it holds its place until it has been answered.
pub async fn within(State(room): State<Room>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    match time::timeout(PATIENCE, room.admit(body)).await {
        Ok(Ok((text, _place))) => next.run(Request::from_parts(head, Body::from(text))).await,
        Ok(Err(refusal)) => refusal.into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "it did not come in time, or others take all room")
            .into_response(),
    }
}

impl Room {
    async fn admit(
        &self,
        mut body: Body,
    ) -> Result<(Bytes, OwnedSemaphorePermit), (StatusCode, &'static str)> {
        let mut text = vec![];
        let mut place = self.take(0).await;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| (StatusCode::BAD_REQUEST, "it ended before its end"))?;
            let Ok(data) = frame.into_data() else { continue };
            if text.len() + data.len() > MAX_BYTES {
                return Err((StatusCode::PAYLOAD_TOO_LARGE, "it has too many bytes"));
            }
            place.merge(self.take(data.len()).await);
            text.extend_from_slice(&data);
        }
        let values = values(&text);
        if values > MAX_VALUES {
            tracing::warn!(values, "a review with too many values is not read");
            return Err((StatusCode::PAYLOAD_TOO_LARGE, "it has too many values"));
        }
        place.merge(self.take(values * VALUE_BYTES).await);
        Ok((text.into(), place))
    }

    async fn take(&self, bytes: usize) -> OwnedSemaphorePermit {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.0.clone().acquire_many_owned(bytes).await.expect("it is never closed")
    }
}

/// How many values a JSON text has, or more: what opens one, or parts two.
fn values(text: &[u8]) -> usize {
    let (mut count, mut quoted, mut escaped) = (1, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            b'{' | b'[' | b',' if !quoted => count += 1,
            _ => {}
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use std::convert::Infallible;

    #[test]
    fn what_opens_or_parts_values_counts_and_what_stands_in_texts_does_not() {
        for (text, wanted) in [("", 1), ("{}", 2), (r#"{"a":[1,2,3]}"#, 5), (r#"["{,\"[,",",\\"]"#, 3)] {
            assert_eq!(values(text.as_bytes()), wanted, "{text}");
        }
    }

    async fn refused(room: &Room, text: impl Into<Body>) -> Option<StatusCode> {
        room.admit(text.into()).await.err().map(|(status, _)| status)
    }

    #[tokio::test]
    async fn what_would_become_too_much_is_not_read() {
        let room = Room::default();
        assert_eq!(refused(&room, "{}").await, None);
        assert_eq!(refused(&room, "{},".repeat(20_001)).await, Some(StatusCode::PAYLOAD_TOO_LARGE));
        assert_eq!(refused(&room, vec![b' '; MAX_BYTES]).await, None);
        assert_eq!(refused(&room, vec![b' '; MAX_BYTES + 1]).await, Some(StatusCode::PAYLOAD_TOO_LARGE));
        assert_eq!(room.0.available_permits(), ROOM_BYTES, "all of it is free again");
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_slowly_leaves_and_who_finds_no_room_gets_it_when_others_have_gone() {
        let room = Room::default();
        let stalls = |room: Room| async move {
            let half = stream::unfold(true, async |first| match first {
                true => Some((Ok::<_, Infallible>(vec![b' '; MAX_BYTES - 1]), false)),
                false => std::future::pending().await,
            });
            time::timeout(PATIENCE, room.admit(Body::from_stream(half))).await.is_err()
        };
        let many =
            (0..ROOM_BYTES / MAX_BYTES + 5).map(|_| tokio::spawn(stalls(room.clone()))).collect::<Vec<_>>();
        while room.0.available_permits() >= MAX_BYTES {
            tokio::task::yield_now().await;
        }
        let start = time::Instant::now();
        assert_eq!(refused(&room, format!("[{}]", "0,".repeat(30_000))).await, None);
        assert!(start.elapsed() <= PATIENCE);
        for one in many {
            assert!(one.await.unwrap(), "it was not waited for");
        }
        assert_eq!(room.0.available_permits(), ROOM_BYTES);
    }
}
