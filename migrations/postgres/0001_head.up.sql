-- The last numbers given. One row, taken first by every commit: that is what makes commits serial.
create table head (
    id bigint not null primary key check (id = 1),
    sequence bigint not null,
    audit_index bigint not null
);

insert into head (id, sequence, audit_index) values (1, 0, -1);

-- The last batch of each kernel process: tells whether a commit happened whose answer was lost.
create table node (
    id uuid not null primary key,
    batch uuid not null
);

-- The last event sequence of each tenant.
create table tenant_sequence (
    tenant uuid not null primary key,
    sequence bigint not null
);
