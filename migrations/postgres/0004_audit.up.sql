-- The audit log. `body` is the exact text that `leaf` covers; the other columns are copies to search by. Never changed.
create table audit (
    idx bigint not null primary key,
    body text not null,
    leaf bytea not null check (length(leaf) = 32),
    id uuid not null unique,
    tenant uuid not null,
    at bigint not null,
    actor text collate "C" not null,
    action text collate "C" not null,
    outcome text collate "C" not null,
    correlation uuid not null,
    commit_sequence bigint not null
);

create index audit_by_tenant on audit (tenant, idx);
create index audit_by_time on audit (tenant, at);
create index audit_by_correlation on audit (correlation, tenant, idx);
create index audit_by_actor on audit (actor, tenant, idx);
create index audit_by_action on audit (action, tenant, idx);

create trigger audit_append_only before update or delete or truncate on audit
    for each statement execute function refuse_change();

-- Also for a session that switched ordinary triggers off as if it were a replica.
alter table audit enable always trigger audit_append_only;
