//! A rotation from its first to its last step, and what stops it.

use super::*;
use crate::ca::Authority;

const DAY: Duration = Duration::from_secs(24 * 3600);
const QUIET: Scene = Scene { published: true, unchanged: LEAST };

fn authority(keys: &Keys) -> Authority {
    Authority::new(keys, DAY, SystemTime::now()).unwrap()
}

/// A proxy that has read everything there is.
fn follower(keys: &Keys) -> Report {
    let Wanted { anchors, issuer } = authority(keys).wanted();
    Report {
        silent: Some(Duration::ZERO),
        anchors: Some(anchors),
        issuer: Some(issuer),
        pod: "shop/web".into(),
    }
}

fn next(keys: &Keys, scene: Scene, reports: &[Report]) -> Option<Step> {
    step(&keys.phase(), authority(keys).wanted(), scene, reports)
}

fn take(keys: &Keys, step: Step) -> Keys {
    keys.after(step, "cluster.local", SystemTime::now()).unwrap().unwrap()
}

fn asked() -> Keys {
    let keys = Keys::generate("cluster.local", SystemTime::now()).unwrap();
    Keys { rotation: Rotation::Asked, ..keys }
}

#[test]
fn every_step_waits_for_every_proxy_and_the_last_leaves_one_root() {
    let first = asked();
    let old = follower(&first);
    assert_eq!(next(&first, QUIET, std::slice::from_ref(&old)), Some(Step::Begin));

    let spreading = take(&first, Step::Begin);
    assert_eq!(
        spreading.issuer_pem, first.issuer_pem,
        "the old issuer signs as long as the new root is not everywhere"
    );
    assert!(spreading.anchors_pem.starts_with(first.anchors_pem.trim_end()));
    let both = follower(&spreading);
    assert_eq!(next(&spreading, QUIET, &[both.clone(), old.clone()]), None);
    assert_eq!(next(&spreading, QUIET, &[both.clone(), both.clone()]), Some(Step::Switch));

    let renewing = take(&spreading, Step::Switch);
    assert_ne!(renewing.issuer_pem, first.issuer_pem);
    let new = follower(&renewing);
    assert_eq!(next(&renewing, QUIET, &[new.clone(), both]), None, "its certificate is the old issuer's");
    assert_eq!(next(&renewing, QUIET, std::slice::from_ref(&new)), Some(Step::Finish));

    let done = take(&renewing, Step::Finish);
    assert_eq!(done.phase(), Phase::Idle);
    assert_eq!(done.anchors_pem.matches("BEGIN CERTIFICATE").count(), 1);
    assert!(!first.anchors_pem.contains(&done.anchors_pem));
    assert_eq!(authority(&done).wanted().issuer, new.issuer.unwrap(), "nobody renews for the last step");
}

/// What proxies live by: at each step, whoever has read the keys of the step before believes who has those of this one, and the
/// other way round.
#[test]
fn neighbouring_steps_believe_each_other() {
    let mut keys = asked();
    for step in [Step::Begin, Step::Switch, Step::Finish] {
        let next = take(&keys, step);
        for (anchors, issuer) in [(&keys, &next), (&next, &keys)] {
            authority(&Keys { anchors_pem: anchors.anchors_pem.clone(), ..issuer.clone() });
        }
        keys = next;
    }
}

#[test]
fn a_proxy_that_never_confirms_is_waited_for_and_named() {
    let spreading = take(&asked(), Step::Begin);
    let good = follower(&spreading);
    let minute = Duration::from_secs(60);
    for (report, wanted) in [
        (Report { silent: None, ..good.clone() }, Lag::Unheard),
        (Report { silent: Some(minute), ..good.clone() }, Lag::Silent(minute)),
        (Report { anchors: None, ..good.clone() }, Lag::Mute),
        (Report { anchors: Some(1), ..good.clone() }, Lag::Anchors),
    ] {
        let forever = Scene { published: true, unchanged: 365 * DAY };
        assert_eq!(lag(&Phase::Spreading, authority(&spreading).wanted(), &report), Some(wanted));
        assert_eq!(next(&spreading, forever, &[good.clone(), report]), None);
    }
}

#[test]
fn nothing_goes_on_before_the_anchors_are_out_and_have_been_for_a_while() {
    let spreading = take(&asked(), Step::Begin);
    let reports = [follower(&spreading)];
    assert_eq!(next(&spreading, Scene { published: false, ..QUIET }, &reports), None);
    assert_eq!(
        next(&spreading, Scene { unchanged: LEAST / 2, ..QUIET }, &[]),
        None,
        "not even without proxies"
    );
    assert_eq!(next(&spreading, QUIET, &[]), Some(Step::Switch));
}

#[test]
fn an_issuer_of_somebody_elses_is_not_rotated_and_the_reason_says_who_does() {
    let foreign = Keys { root_key_pem: None, ..asked() };
    let Phase::Refused(why) = foreign.phase() else { panic!("refused") };
    assert!(why.contains("whoever makes the issuer"), "{why}");
    assert_eq!(next(&foreign, QUIET, &[]), None);
}

#[test]
fn a_step_that_was_taken_is_not_taken_again() {
    let spreading = take(&asked(), Step::Begin);
    for step in [Step::Begin, Step::Finish] {
        assert!(spreading.after(step, "cluster.local", SystemTime::now()).unwrap().is_none());
    }
    let idle = Keys::generate("cluster.local", SystemTime::now()).unwrap();
    assert!(idle.after(Step::Begin, "cluster.local", SystemTime::now()).unwrap().is_none());
}
