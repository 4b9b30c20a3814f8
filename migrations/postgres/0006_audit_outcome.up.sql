-- What did not succeed is searched for most and is rare, so it has an index, which the entries of what did do not pay
-- for.
create index audit_by_outcome on audit (outcome, tenant, idx) where outcome <> 'success';
