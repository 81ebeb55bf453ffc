//! Futures, and the time they take: virtual, unless said otherwise.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use oxlip::{Aborted, AnyDriver, Elapsed, LocalLoop, Loop, Sim};

fn simulated() -> LocalLoop {
    LocalLoop::with_driver(AnyDriver::simulating(Sim::new(0)))
}

const MS: Duration = Duration::from_millis(1);

/// Pending once, and woken at once.
async fn pass() {
    let mut passed = false;
    poll_fn(|cx| {
        if passed {
            return Poll::Ready(());
        }
        passed = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[test]
fn a_future_is_run_to_its_end() {
    let owner = simulated();
    let borrowed = String::from("what it needs may be borrowed");
    let length = owner.block_on(async {
        pass().await;
        borrowed.len()
    });
    assert_eq!(length, borrowed.len());
}

#[test]
fn tasks_run_side_by_side_and_are_joined() {
    let owner = simulated();
    let order = Rc::new(RefCell::new(Vec::new()));
    let walk = |lp: Loop, name: &'static str| {
        let order = order.clone();
        async move {
            for step in 0..3 {
                order.borrow_mut().push((name, step));
                lp.sleep(MS).await;
            }
            name
        }
    };
    let joined = owner.block_on(async {
        let a = owner.spawn(walk(owner.handle(), "a"));
        let b = owner.spawn(walk(owner.handle(), "b"));
        (a.await, b.await)
    });
    assert_eq!(joined, (Ok("a"), Ok("b")));
    assert_eq!(
        *order.borrow(),
        [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2)]
    );
    assert_eq!(owner.now().as_nanos(), 3_000_000);
}

#[test]
fn an_aborted_task_is_dropped_where_it_stands() {
    let owner = simulated();
    let token = Rc::new(());
    let kept = token.clone();
    owner.block_on(async {
        let task = owner.spawn(async move {
            pending::<()>().await;
            drop(kept);
        });
        pass().await;
        assert!(!task.is_finished());
        task.abort();
        assert!(task.is_finished());
        assert_eq!(Rc::strong_count(&token), 1);
        assert_eq!(task.await, Err(Aborted));
    });
}

#[test]
fn a_task_may_abort_itself_and_an_ended_one_be_aborted() {
    let owner = simulated();
    owner.block_on(async {
        let own: Rc<RefCell<Option<oxlip::JoinHandle<()>>>> = Rc::default();
        let handle = own.clone();
        let task = owner.spawn(async move {
            handle
                .borrow()
                .as_ref()
                .expect("set before the first poll")
                .abort();
            pending::<()>().await;
        });
        own.replace(Some(task));
        pass().await;
        pass().await;
        let task = own.take().expect("set above");
        assert_eq!(task.await, Err(Aborted));

        let ended = owner.spawn(async { 7 });
        pass().await;
        pass().await;
        ended.abort();
        assert_eq!(ended.await, Ok(7), "too late");
    });
}

#[test]
fn a_task_goes_on_when_nobody_waits_for_it() {
    let owner = simulated();
    let done = Rc::new(Cell::new(false));
    let (seen, lp) = (done.clone(), owner.handle());
    drop(owner.spawn(async move {
        lp.sleep(MS).await;
        seen.set(true);
    }));
    owner.block_on(owner.sleep(2 * MS));
    assert!(done.get());
}

#[test]
fn a_task_that_wakes_itself_starves_nobody() {
    let owner = simulated();
    let busy = owner.spawn(async {
        loop {
            pass().await;
        }
    });
    let lp = owner.handle();
    let other = owner.spawn(async move {
        for _ in 0..10 {
            pass().await;
        }
        lp.sleep(Duration::ZERO).await;
    });
    owner.block_on(async {
        for _ in 0..20 {
            pass().await;
        }
        assert_eq!(other.await, Ok(()));
    });
    busy.abort();
}

#[test]
fn wakes_from_other_threads_arrive() {
    let owner = LocalLoop::new().expect("a loop");
    let (told, heard) = std::sync::mpsc::channel();
    let sender = thread::spawn(move || {
        let waker: std::task::Waker = heard.recv().expect("a waker");
        waker.wake();
    });
    owner.block_on(async {
        let task = owner.spawn(async move {
            let mut asked = false;
            poll_fn(|cx| {
                if asked {
                    return Poll::Ready(());
                }
                asked = true;
                told.send(cx.waker().clone()).expect("the other thread");
                Poll::Pending
            })
            .await;
        });
        assert_eq!(task.await, Ok(()));
    });
    sender.join().expect("the other thread");
}

#[test]
fn a_dropped_loop_aborts_its_tasks() {
    let owner = simulated();
    let token = Rc::new(());
    let (kept, lp) = (token.clone(), owner.handle());
    let task = owner.spawn(async move {
        // A future's end may use the loop it lived in.
        struct Last(Loop);
        impl Drop for Last {
            fn drop(&mut self) {
                self.0.call_soon(|| unreachable!("nobody runs this loop"));
            }
        }
        let _last = Last(lp);
        pending::<()>().await;
        drop(kept);
    });
    owner.block_on(pass());
    drop(owner);
    assert_eq!(Rc::strong_count(&token), 1);
    assert!(task.is_finished());
}

#[test]
fn sleeping_takes_exactly_as_long_in_virtual_time() {
    let owner = simulated();
    owner.block_on(async {
        let start = owner.now();
        owner.sleep(Duration::from_secs(3600)).await;
        assert_eq!(owner.now().since(start), Duration::from_secs(3600));
        owner.sleep(Duration::ZERO).await;
        owner.sleep_until(start).await;
        assert_eq!(owner.now().since(start), Duration::from_secs(3600));
    });
}

#[test]
fn a_dropped_sleep_leaves_no_timer() {
    let owner = simulated();
    owner.block_on(async {
        let mut long = Box::pin(owner.sleep(Duration::from_secs(9)));
        assert!(futures_poll(&mut long).await.is_pending());
        drop(long);
        owner.sleep(MS).await;
    });
    assert_eq!(owner.now().as_nanos(), 1_000_000);
}

/// One poll.
async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx))).await
}

#[test]
fn a_limit_drops_what_takes_longer() {
    let owner = simulated();
    let token = Rc::new(());
    owner.block_on(async {
        let kept = token.clone();
        let slow = async {
            owner.sleep(5 * MS).await;
            drop(kept);
        };
        assert_eq!(owner.timeout(2 * MS, slow).await, Err(Elapsed));
        assert_eq!(owner.now().as_nanos(), 2_000_000);
        assert_eq!(Rc::strong_count(&token), 1);

        assert_eq!(owner.timeout(5 * MS, async { "fast" }).await, Ok("fast"));
        let exact = async {
            owner.sleep(3 * MS).await;
            "just in time"
        };
        assert_eq!(owner.timeout(3 * MS, exact).await, Ok("just in time"));
    });
}
