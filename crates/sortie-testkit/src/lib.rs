//! What sortie's tests share: ports, servers, wire clients.
