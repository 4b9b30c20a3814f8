drop index audit_by_outcome;
