//! Brings who leads to bear on everything that works only then.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::context::Context;
use super::run::Clients;
use crate::lease::elector::News;
use crate::lease::{Clock, Elector, Fence, Seat};
use crate::telemetry::Check;

/// Stands for the Lease until all writes have ended; without one, leads until then.
pub async fn stand(
    ctx: Arc<Context>,
    seat: Option<Seat>,
    clients: Clients,
    awaited: Option<Check>,
    quiet: oneshot::Receiver<()>,
) {
    let Some(seat) = seat else {
        ctx.leads(Fence::always());
        let _ = quiet.await;
        return;
    };
    let lease = seat.name.clone();
    ctx.metrics.leader(&lease, false);
    let elector = Elector::new(clients.lease, clients.watch, seat, Clock::Boot);
    let tell = |news| match news {
        News::Answers => awaited.iter().for_each(Check::met),
        News::Unanswered(what) => {
            if let Some(check) = &awaited {
                check.unmet(what);
            }
        }
        News::Leads(fence) => {
            ctx.leads(fence);
            ctx.metrics.leader(&lease, true);
        }
        News::StandsBy => {
            ctx.stands_by();
            ctx.metrics.leader(&lease, false);
        }
    };
    elector.run(ctx.listed.notified(), tell, quiet).await;
}
