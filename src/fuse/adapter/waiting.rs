//! Changes of a volume that is being counted: they wait on threads of their own.

/// Runs `$body`, which changes the volume of `$node`, and replies: at once, or
/// when the volume has been counted. It waits on a thread of its own, with
/// copies of what was borrowed from the request, so that other volumes go on.
macro_rules! change {
    ($adapter:ident, $node:ident, [$($borrowed:ident),*], $body:block) => {
        match node($node).slot().map(|slot| (slot, $adapter.fs.counting.enter(slot))) {
            None | Some((_, Some(_))) => $body,
            Some((slot, None)) => {
                $(let $borrowed = $borrowed.to_owned();)*
                let waiting = $adapter.clone();
                after_count(move || {
                    let _under_way = waiting.fs.counting.enter_in_turn(slot);
                    let $adapter = &waiting;
                    $(let $borrowed = &*$borrowed;)*
                    $body
                });
            }
        }
    };
}

/// Stack of a thread that waits: an operation needs little.
const WAITER_STACK_BYTES: usize = 256 << 10;

pub(super) fn after_count(run: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new()
        .name("volfs-waits".into())
        .stack_size(WAITER_STACK_BYTES);
    if let Err(error) = thread.spawn(run) {
        // The reply is dropped with the closure: the caller gets EIO.
        log::error!("no thread for a change that waits for a count: {error}");
    }
}

pub(super) use change;
