"""Google: the generateContent API of Gemini models."""
