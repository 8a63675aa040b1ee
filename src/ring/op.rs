//! One-shot operations on the worker's ring.

use std::{io, marker::PhantomData};

use io_uring::{cqueue, squeue};
use tokio_uring::{InFlightOneshot, OneshotOutputTransform, UnsubmittedOneshot};

/// Hands back the result together with what had to live until the operation completed.
pub(super) struct Keep<T>(PhantomData<T>);

impl<T: 'static> OneshotOutputTransform for Keep<T> {
    type Output = (io::Result<i32>, T);
    type StoredData = T;

    fn transform_oneshot_output(self, kept: T, entry: cqueue::Entry) -> Self::Output {
        let result = entry.result();
        (if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result) }, kept)
    }
}

/// Submits `entry`. Everything that `entry` points to, and the socket whose descriptor it
/// names, must be owned by `kept`: the driver holds it until the operation completes, also
/// when the future is dropped before.
pub(super) fn submit<T: 'static>(entry: squeue::Entry, kept: T) -> InFlightOneshot<T, Keep<T>> {
    UnsubmittedOneshot::new(kept, Keep(PhantomData), entry).submit()
}
