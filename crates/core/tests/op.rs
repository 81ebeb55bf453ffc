//! `Interest` as a set of two.

use oxlip_core::op::Interest;

const ALL: [Interest; 4] = [
    Interest::NONE,
    Interest::READ,
    Interest::WRITE,
    Interest::BOTH,
];

#[test]
fn union_and_difference_are_those_of_sets() {
    for a in ALL {
        for b in ALL {
            let (union, rest) = (a | b, a.without(b));
            assert_eq!(union.reads(), a.reads() || b.reads());
            assert_eq!(union.writes(), a.writes() || b.writes());
            assert_eq!(rest.reads(), a.reads() && !b.reads());
            assert_eq!(rest.writes(), a.writes() && !b.writes());
            let mut grown = a;
            grown |= b;
            assert_eq!(grown, union);
        }
        assert_eq!(a.is_none(), !a.reads() && !a.writes());
    }
    assert_eq!(Interest::default(), Interest::NONE);
}
