//! `Listener` against the rules of asyncio's `_accept_connection`.

mod cases;

use std::time::Duration;

use oxlip_core::listener::{AcceptOutcome, AcceptStep, Listener};
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A hint, and how the attempts of its round end.
    Round([AcceptOutcome; 6]),
    Resume,
    Close,
}

fn outcome() -> impl Strategy<Value = AcceptOutcome> {
    prop_oneof![
        8 => Just(AcceptOutcome::Accepted),
        2 => Just(AcceptOutcome::Empty),
        1 => Just(AcceptOutcome::Exhausted),
        1 => Just(AcceptOutcome::Failed),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => prop::array::uniform6(outcome()).prop_map(Step::Round),
        6 => Just(Step::Resume),
        1 => Just(Step::Close),
    ]
}

proptest! {
    #![proptest_config(cases::cases())]

    #[test]
    fn keeps_the_rules(
        backlog in 0..6usize, steps in prop::collection::vec(step(), 1..cases::STEPS)
    ) {
        let mut listener = Listener::new(backlog);
        let (mut resting, mut closed) = (false, false);
        for step in steps {
            match step {
                Step::Round(outcomes) => {
                    let expected = if closed {
                        AcceptStep::Closed
                    } else if resting {
                        AcceptStep::Wait
                    } else {
                        AcceptStep::Accept
                    };
                    let mut step = listener.hint();
                    prop_assert_eq!(step, expected);
                    for (n, outcome) in (1..).zip(outcomes) {
                        if step != AcceptStep::Accept {
                            break;
                        }
                        step = listener.next(outcome);
                        let expected = match outcome {
                            AcceptOutcome::Accepted if n < backlog.max(1) => AcceptStep::Accept,
                            AcceptOutcome::Exhausted => AcceptStep::Rest(Duration::from_secs(1)),
                            _ => AcceptStep::Wait,
                        };
                        prop_assert_eq!(step, expected);
                        resting = outcome == AcceptOutcome::Exhausted;
                    }
                    prop_assert_ne!(step, AcceptStep::Accept, "a round is bounded");
                }
                Step::Resume => {
                    prop_assert_eq!(listener.resume(), resting && !closed);
                    resting = false;
                }
                Step::Close => {
                    prop_assert_eq!(listener.close(), !closed);
                    closed = true;
                }
            }
            prop_assert_eq!(listener.is_closed(), closed);
            prop_assert_eq!(listener.wants_accept(), !closed && !resting);
        }
    }
}

#[test]
fn a_listener_closed_by_the_connection_it_took_takes_no_more() {
    for outcome in [
        AcceptOutcome::Accepted,
        AcceptOutcome::Empty,
        AcceptOutcome::Exhausted,
        AcceptOutcome::Failed,
    ] {
        let mut listener = Listener::new(100);
        assert_eq!(listener.hint(), AcceptStep::Accept);
        assert!(listener.close());
        assert_eq!(listener.next(outcome), AcceptStep::Closed);
        assert!(!listener.resume());
    }
}
