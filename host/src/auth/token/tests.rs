//! Forged, expired and borrowed tokens are refused; only the kernel's own are accepted.

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::*;
use crate::auth::seal::MasterKey;
use crate::auth::signing_key;

struct Subject {
    tokens: Tokens,
    clock: Clock,
    key: SigningKey,
    actor: Actor,
}

impl Subject {
    fn new() -> Self {
        let clock = Clock::manual(Timestamp::from_second(1_800_000_000).unwrap());
        let (key, _) = signing_key::generate(&clock, &MasterKey::new([1; 32])).unwrap();
        let tokens = Tokens::new("issuer".into(), "audience".into(), clock.clone(), vec![key.clone()]);
        let (user, tenant, session) = (UserId::new(&clock), TenantId::new(&clock), SessionId::new(&clock));
        Self { tokens, clock, key, actor: Actor::User { user, tenant, session } }
    }

    fn issue(&self) -> String {
        let Actor::User { user, tenant, session } = self.actor else { panic!("a user") };
        self.tokens.issue(user, tenant, session).unwrap().token
    }

    /// A token that is signed well, with a claim set to another value or, when that is null, left out.
    fn with_claim(&self, name: &str, value: Value) -> String {
        let mut claims = claims(&self.issue());
        let claims_object = claims.as_object_mut().unwrap();
        if value.is_null() {
            claims_object.remove(name)
        } else {
            claims_object.insert(name.to_owned(), value)
        };
        self.sign(Some("at+jwt"), Some(&self.key.kid), &claims)
    }

    fn sign(&self, typ: Option<&str>, kid: Option<&str>, claims: &Value) -> String {
        let header = Header { typ: typ.map(Into::into), kid: kid.map(Into::into), ..Header::new(Algorithm::EdDSA) };
        jsonwebtoken::encode(&header, claims, &self.key.signing).unwrap()
    }
}

fn claims(token: &str) -> Value {
    jsonwebtoken::dangerous::insecure_decode_claims(token).unwrap()
}

#[test]
fn a_token_stands_for_its_user_until_it_expires() {
    let subject = Subject::new();
    subject.tokens.self_test().unwrap();
    let token = subject.issue();
    for _ in 0..2 {
        assert_eq!(subject.tokens.verify(&token), Ok(subject.actor.clone()));
    }
    subject.clock.advance(SignedDuration::from_secs(599));
    assert_eq!(subject.tokens.verify(&token), Ok(subject.actor.clone()));
    subject.clock.advance(SignedDuration::from_secs(1));
    assert_eq!(subject.tokens.verify(&token), Err(TokenError::Expired), "also when it is remembered");
    subject.tokens.verified.invalidate_all();
    assert_eq!(subject.tokens.verify(&token), Err(TokenError::Expired));
}

#[test]
fn every_claim_is_needed_and_typed() {
    let subject = Subject::new();
    assert!(subject.tokens.verify(&subject.with_claim("iss", json!("issuer"))).is_ok(), "the control");
    let wrong = [
        ("iss", json!("another")),
        ("iss", json!(["issuer"])),
        ("aud", json!("another")),
        ("aud", json!(["audience", "another"])),
        ("sub", json!("nobody")),
        ("sub", json!(7)),
        ("tid", json!("acme")),
        ("sid", json!("")),
        ("jti", json!("x")),
        ("iat", json!("now")),
        ("exp", json!("later")),
        ("exp", json!(1.5)),
        ("client_id", json!(7)),
    ];
    for (name, value) in wrong {
        let verdict = subject.tokens.verify(&subject.with_claim(name, value.clone()));
        assert!(matches!(verdict, Err(TokenError::Invalid(_))), "{name} = {value}: {verdict:?}");
    }
    for name in ["iss", "aud", "sub", "client_id", "tid", "sid", "jti", "iat", "exp"] {
        let verdict = subject.tokens.verify(&subject.with_claim(name, Value::Null));
        assert!(matches!(verdict, Err(TokenError::Invalid(_))), "without {name}: {verdict:?}");
    }
    let now = subject.clock.now().as_second();
    assert!(subject.tokens.verify(&subject.with_claim("iat", json!(now + SKEW_S))).is_ok());
    assert_eq!(subject.tokens.verify(&subject.with_claim("iat", json!(now + SKEW_S + 1))), Err(TokenError::Early));
    assert_eq!(subject.tokens.verify(&subject.with_claim("exp", json!(now))), Err(TokenError::Expired));
}

#[test]
fn the_header_must_say_what_it_is() {
    let subject = Subject::new();
    let claims = claims(&subject.issue());
    let kid = subject.key.kid.as_str();
    assert!(subject.tokens.verify(&subject.sign(Some("AT+JWT"), Some(kid), &claims)).is_ok());
    assert!(subject.tokens.verify(&subject.sign(Some("application/at+jwt"), Some(kid), &claims)).is_ok());
    for typ in [None, Some("JWT"), Some("")] {
        let verdict = subject.tokens.verify(&subject.sign(typ, Some(kid), &claims));
        assert!(matches!(verdict, Err(TokenError::Invalid(_))), "{typ:?}: {verdict:?}");
    }
    for kid in [None, Some("another")] {
        let verdict = subject.tokens.verify(&subject.sign(Some("at+jwt"), kid, &claims));
        assert_eq!(verdict, Err(TokenError::UnknownKey(kid.unwrap_or_default().into())));
    }
}

#[test]
fn only_its_own_key_signs() {
    let (subject, other) = (Subject::new(), Subject::new());
    let claims = claims(&subject.issue());
    let forged = other.sign(Some("at+jwt"), Some(&subject.key.kid), &claims);
    assert!(matches!(subject.tokens.verify(&forged), Err(TokenError::Invalid(_))));
    let header = Header { typ: Some(TYPE.into()), kid: Some(subject.key.kid.clone()), ..Header::new(Algorithm::HS256) };
    let public = subject.key.public().x;
    let confused =
        jsonwebtoken::encode(&header, &claims, &jsonwebtoken::EncodingKey::from_secret(public.as_bytes())).unwrap();
    assert!(matches!(subject.tokens.verify(&confused), Err(TokenError::Invalid(_))), "no public key is a secret");
}

#[test]
fn tokens_of_a_key_that_is_gone_are_forgotten() {
    let (subject, other) = (Subject::new(), Subject::new());
    let token = subject.issue();
    assert!(subject.tokens.verify(&token).is_ok());
    subject.tokens.replace_keys(vec![other.key.clone()]);
    assert_eq!(subject.tokens.verify(&token), Err(TokenError::UnknownKey(subject.key.kid.clone())));
}
