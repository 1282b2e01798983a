"""The async handle: the same verbs as the sync one's, cancelled wherever they can be."""
