use super::*;

fn start() -> Start {
    Start {
        program: c"/bin/x".into(),
        arguments: vec![c"-a".into(), c"".into()],
        environment: vec![c"A=b=c".into()],
        targets: vec![0, 63],
        lifetime: Lifetime::Line,
        group: Group::Leader,
    }
}

#[test]
fn orders_arrive_as_they_left() {
    for order in [
        Order::Start(start()),
        Order::LeaveDirectory,
        Order::DropPrivileges,
    ] {
        assert_eq!(Order::decode(&order.encode()), Ok(order));
    }
    let bytes = Order::Start(start()).encode();
    let header = [1, 0, 1, 2, 0, 1, 0, 2, 0, 0, 0, 63, 0];
    assert_eq!(bytes, [&header[..], b"/bin/x\0-a\0\0A=b=c\0"].concat());
}

#[test]
fn what_a_program_cannot_have_is_refused() {
    let refused = |change: &dyn Fn(&mut Start)| {
        let mut start = start();
        change(&mut start);
        Order::decode(&Order::Start(start).encode()).unwrap_err()
    };
    assert_eq!(
        refused(&|start| start.targets = vec![64, 1]),
        Malformed::Target(64)
    );
    assert_eq!(
        refused(&|start| start.targets = vec![1, 1]),
        Malformed::Target(1)
    );
    let many = |count| vec![c"A=".into(); count];
    assert_eq!(
        refused(&|start| start.targets = (0..17).collect()),
        Malformed::TooMany
    );
    assert_eq!(
        refused(&|start| start.arguments = many(1025)),
        Malformed::TooMany
    );
    assert_eq!(
        refused(&|start| start.arguments = many(70_000)),
        Malformed::TooMany
    );
    assert_eq!(
        refused(&|start| start.environment = many(1025)),
        Malformed::TooMany
    );
    for wrong in [c"", c"A", c"=b"] {
        let environment = vec![wrong.to_owned()];
        assert_eq!(
            refused(&|start| start.environment = environment.clone()),
            Malformed::Variable
        );
    }
    assert_eq!(
        refused(&|start| start.program = c"".into()),
        Malformed::NoProgram
    );
}

#[test]
fn flags_and_kinds_have_known_values() {
    let mut bytes = Order::Start(start()).encode();
    for at in [1, 2] {
        let was = std::mem::replace(&mut bytes[at], 2);
        assert_eq!(Order::decode(&bytes), Err(Malformed::Flag));
        bytes[at] = was;
    }
    assert_eq!(Order::decode(&[9]), Err(Malformed::Kind(9)));
}

#[test]
fn every_cut_and_every_surplus_is_noticed() {
    let bytes = Order::Start(start()).encode();
    for len in 0..bytes.len() {
        assert_eq!(
            Order::decode(&bytes[..len]),
            Err(Malformed::Length),
            "{len}"
        );
    }
    let longer = [&bytes[..], b"x"].concat();
    assert_eq!(Order::decode(&longer), Err(Malformed::Length));
}

#[test]
fn answers_arrive_as_they_left() {
    for answer in [
        Answer::Done(7),
        Answer::Failed(2),
        Answer::Refused("no".into()),
        Answer::Ended(768),
    ] {
        assert_eq!(Answer::decode(&answer.encode()), Some(answer));
    }
    for nonsense in [&[][..], &[0, 1], &[9, 0, 0, 0, 0]] {
        assert_eq!(Answer::decode(nonsense), None);
    }
    let long = Answer::Refused("x".repeat(5000)).encode();
    assert_eq!(long.len(), ANSWER_MAX);
}

proptest::proptest! {
    #[test]
    fn whatever_comes_is_an_order_or_none(bytes in proptest::collection::vec(0u8..4, 0..60)) {
        if let Ok(order) = Order::decode(&bytes) {
            proptest::prop_assert_eq!(Order::decode(&order.encode()), Ok(order));
        }
    }
}
