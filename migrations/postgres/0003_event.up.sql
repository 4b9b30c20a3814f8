-- Each tenant's events, numbered without gaps in commit order. Never changed.
create table event (
    tenant uuid not null,
    sequence bigint not null,
    id text collate "C" not null,
    source text collate "C" not null,
    kind text collate "C" not null,
    subject text collate "C",
    time bigint not null,
    data text not null,
    actor text collate "C" not null,
    correlation uuid not null,
    traceparent text,
    commit_sequence bigint not null,
    primary key (tenant, sequence),
    unique (tenant, source, id)
);

create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'table % is append-only: % is refused', tg_table_name, tg_op;
end
$$;

create index event_by_kind on event (tenant, kind, sequence);
create index event_by_subject on event (tenant, subject, sequence);

create trigger event_append_only before update or delete or truncate on event
    for each statement execute function refuse_change();

-- Also for a session that switched ordinary triggers off as if it were a replica.
alter table event enable always trigger event_append_only;
