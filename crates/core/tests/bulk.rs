//! When a large piece is expected.

use oxlip_core::bulk::{Bulk, ROOM};

const LARGE: usize = 64 * 1024;

fn after(received: &[usize]) -> bool {
    let mut bulk = Bulk::default();
    for size in received {
        bulk.note(*size);
    }
    bulk.is_likely()
}

#[test]
fn large_pieces_in_a_row_make_the_next_likely() {
    assert!(!after(&[]));
    assert!(!after(&[LARGE; 3]));
    assert!(after(&[LARGE; 4]));
    assert!(after(&[LARGE; 1000]));
}

#[test]
fn a_small_piece_ends_it() {
    let mut sizes = vec![LARGE; 100];
    sizes.push(100);
    assert!(!after(&sizes));
    sizes.extend([LARGE; 4]);
    assert!(after(&sizes));
}

#[test]
fn a_piece_that_fills_the_room_ends_it() {
    let mut sizes = vec![LARGE; 100];
    sizes.push(ROOM);
    assert!(!after(&sizes), "there was more, which cost another read");
    assert!(after(&[ROOM - 1; 4]));
}
