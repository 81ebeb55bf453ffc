//! `Arena` against a map that never forgets which ids there have been.

mod cases;

use std::collections::HashMap;

use oxlip_core::id::{Arena, Id};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Insert,
    Remove(prop::sample::Index),
    Change(prop::sample::Index),
    TakeAll,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => Just(Step::Insert),
        6 => any::<prop::sample::Index>().prop_map(Step::Remove),
        2 => any::<prop::sample::Index>().prop_map(Step::Change),
        1 => Just(Step::TakeAll),
    ]
}

proptest! {
    #![proptest_config(cases::cases())]

    #[test]
    fn behaves_like_a_map_whose_keys_are_never_reused(
        steps in prop::collection::vec(step(), 1..cases::STEPS)
    ) {
        let mut arena = Arena::new();
        // Every id there has been, with what it should name: `None` once it is dead.
        let mut model: HashMap<Id, Option<u32>> = HashMap::new();
        let mut known: Vec<Id> = Vec::new();
        let mut value = 0;
        for step in steps {
            value += 1;
            match step {
                Step::Insert => {
                    let id = arena.insert(value);
                    prop_assert_eq!(model.insert(id, Some(value)), None, "an id was given twice");
                    prop_assert_eq!(Id::from_u64(id.to_u64()), id);
                    known.push(id);
                }
                Step::Remove(index) if !known.is_empty() => {
                    let id = *index.get(&known);
                    let expected = model.insert(id, None).flatten();
                    prop_assert_eq!(arena.remove(id), expected);
                }
                Step::Change(index) if !known.is_empty() => {
                    let id = *index.get(&known);
                    if let Some(entry) = model.get_mut(&id).and_then(Option::as_mut) {
                        *entry = value;
                    }
                    if let Some(entry) = arena.get_mut(id) {
                        *entry = value;
                    }
                }
                Step::Remove(_) | Step::Change(_) => {}
                Step::TakeAll => {
                    let mut expected: Vec<u32> =
                        model.values_mut().filter_map(Option::take).collect();
                    let mut taken = arena.take_all();
                    expected.sort_unstable();
                    taken.sort_unstable();
                    prop_assert_eq!(taken, expected);
                }
            }
            for (id, expected) in &model {
                prop_assert_eq!(arena.get(*id), expected.as_ref());
            }
            let alive: HashMap<Id, Option<u32>> =
                arena.iter().map(|(id, value)| (id, Some(*value))).collect();
            prop_assert_eq!(arena.len(), alive.len());
            prop_assert_eq!(arena.is_empty(), alive.is_empty());
            prop_assert!(alive.iter().all(|entry| model.get(entry.0) == Some(entry.1)));
            prop_assert_eq!(alive.len(), model.values().flatten().count());
        }
    }
}

#[test]
fn slots_are_reused() {
    let mut arena = Arena::new();
    for n in 0..1000 {
        let id = arena.insert(n);
        assert_eq!(id.index(), 0);
        assert_eq!(arena.remove(id), Some(n));
    }
}
