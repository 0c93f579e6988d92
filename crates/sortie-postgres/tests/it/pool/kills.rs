//! Foreign kills: a late cancel that hits the connection's next query, which is a stranger's.
