"""Gates to and from other programs: Gating-ML documents and FlowJo workspaces."""
