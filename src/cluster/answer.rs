//! Reads the body of a response. Reports each part of a watch to its observer; a body that stalls for too long is an error.

use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

/// How long a body may stall. Longer than any watch, which lasts at most 290 s.
const SILENCE: Duration = Duration::from_secs(300);

/// The body of a response. Calls `heard` for each part.
pub(crate) struct ObservedBody<B> {
    body: B,
    heard: Option<Box<dyn Fn() + Send>>,
    silence: Pin<Box<Sleep>>,
}

impl<B> ObservedBody<B> {
    pub(super) fn new(body: B, heard: Option<Box<dyn Fn() + Send>>) -> Self {
        let silence = Box::pin(sleep(SILENCE));
        Self {
            body,
            heard,
            silence,
        }
    }
}

impl<B> Body for ObservedBody<B>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Unpin,
{
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            let Some(Ok(_)) = &frame else {
                return Poll::Ready(frame.map(|f| f.map_err(Into::into)));
            };
            self.silence.as_mut().reset(Instant::now() + SILENCE);
            if let Some(heard) = &self.heard {
                heard();
            }
            return Poll::Ready(frame.map(|f| f.map_err(Into::into)));
        }
        ready!(self.silence.as_mut().poll(context));
        let silent = format!("nothing has come for {} s", SILENCE.as_secs());
        Poll::Ready(Some(Err(silent.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stalls_is_an_error_and_one_that_makes_progress_is_not() {
        let parts = futures_util::stream::unfold(0u64, |n| async move {
            match n {
                0..4 => tokio::time::sleep(Duration::from_secs(250)).await,
                _ => std::future::pending().await,
            }
            let part = Frame::data(Bytes::from_static(b"x"));
            Some((Ok::<_, std::convert::Infallible>(part), n + 1))
        });
        let (count, started) = (Arc::new(AtomicUsize::default()), Instant::now());
        let counted = count.clone();
        let heard = Box::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let body = StreamBody::new(Box::pin(parts));
        let error = ObservedBody::new(body, Some(heard))
            .collect()
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), "nothing has come for 300 s");
        assert_eq!(count.load(Ordering::Relaxed), 4);
        assert_eq!(started.elapsed().as_secs(), 4 * 250 + 300);
    }
}
