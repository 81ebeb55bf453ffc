//! The default executor: `run_in_executor(None, …)` and `asyncio.to_thread()`.
//!
//! `oxlip._default_executor` is `concurrent.futures`' pool of threads, which begins, ends and names
//! them. What is here is the way of a call to one of its threads and back: [`WorkQueue`] is what the
//! threads take their work from, an [`ExecutorCall`] what the loop puts in.
//!
//! A thread that tells the loop of an outcome gives up the GIL first: woken before, the loop would
//! only wait for it, and the thread would be woken once more to go on.

mod call;
mod work_queue;

pub(crate) use self::call::ExecutorCall;
pub(crate) use self::work_queue::WorkQueue;
