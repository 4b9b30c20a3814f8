//! Replies are kept until they expire and then forgotten, while commits go on.

use aibos::limit;
use aibos::state::unit::{Conflict, Unit, Verdict};
use jiff::SignedDuration;

use super::{Subject, writing};

on_both_backends! {
    only_what_has_expired_is_forgotten,
    a_sweep_beside_an_open_commit_waits_for_nothing_it_needs,
}

fn keeping(subject: &Subject, key: &str, life: SignedDuration) -> Unit {
    let mut reply = subject.reply(key);
    reply.expires_at = subject.clock.now() + life;
    Unit { reply: Some(reply), ..Unit::default() }
}

async fn only_what_has_expired_is_forgotten(subject: Subject) {
    let short = SignedDuration::from_hours(1);
    let many = usize::try_from(limit::SWEEP_ROWS_MAX).unwrap() + 7;
    let units: Vec<Unit> = (0..many).map(|number| keeping(&subject, &format!("short-{number}"), short)).collect();
    subject.commit(&units).await;
    subject.accept(keeping(&subject, "long", 2 * short)).await;
    assert_eq!(subject.storage.sweep_replies(subject.clock.now()).await.unwrap(), 0);

    // Until it is swept a key stays taken, whatever the clock says.
    subject.clock.advance(short + SignedDuration::from_millis(1));
    let again = subject.commit(&[keeping(&subject, "short-3", short)]).await;
    assert_eq!(again, [Verdict::Conflicted(Conflict::Reply)]);

    let swept = async || subject.storage.sweep_replies(subject.clock.now()).await.unwrap();
    assert_eq!(swept().await, u64::try_from(limit::SWEEP_ROWS_MAX).unwrap(), "a few at a time");
    assert_eq!((swept().await, swept().await), (7, 0));
    assert!(subject.storage.reply(&subject.reply("long").key).await.unwrap().is_some());
    assert!(subject.storage.reply(&subject.reply("short-3").key).await.unwrap().is_none());
    subject.accept(keeping(&subject, "short-3", short)).await;
}

async fn a_sweep_beside_an_open_commit_waits_for_nothing_it_needs(subject: Subject) {
    let past = -SignedDuration::from_hours(1);
    for round in 0..20 {
        let units: Vec<Unit> = (0..50).map(|number| keeping(&subject, &format!("{round}-{number}"), past)).collect();
        let more = [writing([subject.put("state", &round.to_string())])];
        let (_, swept, _) = tokio::join!(
            subject.commit(&units),
            subject.storage.sweep_replies(subject.clock.now()),
            subject.commit(&more)
        );
        swept.unwrap();
    }
    while subject.storage.sweep_replies(subject.clock.now()).await.unwrap() > 0 {}
    assert_eq!(subject.value("state").await.as_deref(), Some("19"));
    assert!(subject.storage.reply(&subject.reply("19-49").key).await.unwrap().is_none());
}
