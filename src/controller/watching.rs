//! Watches that begin anew, with all objects there are, once the API server was away.
//!
//! A watch that broke off can be taken up again where it was, by version. That is cheaper, and right as long as versions only
//! grow. An API server whose data was restored from a backup counts anew from an older version: asked for what is
//! newer than that, it says nothing at all for as long as it takes to get there, and what it says then is not what was missed.

use std::fmt::Debug;

use futures::{Stream, StreamExt, stream};
use kube::Resource;
use kube::api::Api;
use kube::runtime::{WatchStreamExt, watcher};
use serde::de::DeserializeOwned;

/// Watches for ever; after an error it waits a little, longer each time.
pub fn watching<K>(
    api: Api<K>,
    config: watcher::Config,
) -> impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let events = stream::unfold(None, move |open| {
        let mut open = open.unwrap_or_else(|| watcher(api.clone(), config.clone()).boxed());
        async move {
            let event = open.next().await?;
            let goes_on = event.as_ref().err().is_none_or(is_about_an_object);
            Some((event, goes_on.then_some(open)))
        }
    });
    events.default_backoff()
}

/// Whether one object could not be read; the watch itself is sound.
fn is_about_an_object(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchFailed(kube::Error::SerdeError(_)))
}
