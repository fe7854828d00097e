"""What REPAIR_POLICY and the limits say, and what another policy or other limits would do."""
