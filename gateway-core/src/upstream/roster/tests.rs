use std::collections::BTreeMap;

use super::super::endpoint::EndpointState;
use super::*;

/// Candidates by priority, preference and whether they are usable; their addresses count up.
fn roster(candidates: &[(u32, bool, bool)]) -> Roster {
    weighted(&candidates.iter().map(|one| (one.0, one.1, one.2, 1)).collect::<Vec<_>>())
}

fn weighted(candidates: &[(u32, bool, bool, u32)]) -> Roster {
    let candidates = (0..).zip(candidates).map(|(place, (priority, preferred, usable, weight))| {
        let endpoint = Endpoint {
            address: address(place),
            id: u64::from(place) + 100,
            weight: *weight,
            priority: *priority,
            labels: BTreeMap::new(),
            peer: pingora::upstreams::peer::HttpPeer::new(address(place), false, String::new()),
            live: Arc::new(EndpointState::new(2)),
            total: None,
            decides: true,
            most: u32::MAX,
            room: None,
        };
        Candidate {
            member: Member::new(Arc::new(endpoint), 2),
            weight: *weight,
            full: *weight,
            usable: *usable,
            preferred: *preferred,
        }
    });
    Roster::new(candidates.collect(), &BalanceConfig::RoundRobin, 0.7)
}

fn address(place: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1000 + place))
}

/// How many of ten thousand attempts go to each endpoint.
fn counts(roster: &Roster, id: Option<u64>, avoid: &[SocketAddr]) -> Vec<u32> {
    let mut counts = vec![0; roster.endpoints.len()];
    for turn in 0..10_000 {
        let given = Circumstances { turn, key: None, in_flight: 0 };
        let wanted = Wanted { given, id, avoid, now: 0 };
        let Some(chosen) = roster.choose(&wanted) else { continue };
        counts[usize::from(chosen.address.port() - 1000)] += 1;
    }
    counts
}

#[test]
fn a_group_that_is_well_takes_all_requests() {
    let roster = roster(&[(1, true, true), (0, true, true), (0, true, true)]);

    assert_eq!(counts(&roster, None, &[]), [0, 5_000, 5_000]);
}

#[test]
fn a_group_takes_all_while_enough_of_it_is_usable() {
    // Three of four are 75 %.
    let mut candidates = vec![(0, true, true); 3];
    candidates.extend([(0, true, false), (1, true, true)]);

    assert_eq!(counts(&roster(&candidates), None, &[])[3..], [0, 0]);
}

#[test]
fn what_a_group_cannot_take_spills_over_to_the_next() {
    // Half of the first group is usable: of 70 %, that is 71.4 %.
    let roster = roster(&[(0, true, true), (0, true, false), (1, true, true), (2, true, true)]);

    let counts = counts(&roster, None, &[]);

    assert!((6_900..7_400).contains(&counts[0]), "{counts:?}");
    assert!((2_600..3_100).contains(&counts[2]), "{counts:?}");
    assert_eq!(counts[3], 0, "the second group can take the rest");
}

#[test]
fn groups_that_cannot_take_everything_share_it_in_proportion() {
    let mut candidates = vec![(0, true, false); 9];
    candidates.push((0, true, true));
    candidates.extend([(1, true, false); 9]);
    candidates.push((1, true, true));

    let counts = counts(&roster(&candidates), None, &[]);

    assert!((4_700..5_300).contains(&counts[9]), "{counts:?}");
    assert_eq!(counts[9] + counts[19], 10_000);
}

#[test]
fn what_is_preferred_comes_before_the_rest_of_its_priority() {
    let roster = roster(&[(0, false, true), (0, true, true), (1, true, true)]);

    assert_eq!(counts(&roster, None, &[]), [0, 10_000, 0]);
}

#[test]
fn a_client_goes_where_it_was_unless_that_endpoint_is_not_usable() {
    let roster = roster(&[(0, true, true), (0, true, true), (0, true, false), (1, true, true)]);

    assert_eq!(counts(&roster, Some(101), &[])[1], 10_000);
    assert_eq!(counts(&roster, Some(103), &[])[3], 10_000, "in another group too");
    let elsewhere = counts(&roster, Some(102), &[]);
    assert_eq!((elsewhere[2], elsewhere.iter().sum::<u32>()), (0, 10_000));
}

#[test]
fn what_was_tried_is_avoided_across_groups() {
    let roster = roster(&[(0, true, true), (1, true, true)]);

    assert_eq!(counts(&roster, None, &[address(0)]), [0, 10_000]);
    assert_eq!(counts(&roster, Some(100), &[address(0)]), [0, 10_000]);
}

#[test]
fn weights_count_within_a_group_and_nothing_usable_is_nothing() {
    let roster = weighted(&[(0, true, true, 3), (0, true, true, 1), (0, true, true, 0)]);
    assert_eq!(counts(&roster, None, &[]), [7_500, 2_500, 0]);
    assert_eq!(counts(&roster, Some(102), &[])[2], 0, "weight 0 is never chosen");

    let nobody = weighted(&[(0, true, false, 3), (1, true, true, 0)]);
    assert_eq!(counts(&nobody, None, &[]), [0, 0]);
}
