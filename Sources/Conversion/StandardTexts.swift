extension CalibrationTexts {
    /// Texts to measure with where the user has none at hand: everyday English of several kinds, and a little code.
    public static let standard: [String] = [
        "The kitchen light has been flickering since the storm, and the landlord says he will look at it on Thursday.",
        "How do I return a pair of shoes that I bought online last week?",
        "Photosynthesis turns light, water and carbon dioxide into sugar and oxygen.",
        "Shares fell sharply after the company lowered its forecast for the fourth quarter.",
        "She put the letter back into the drawer and decided never to speak of it again.",
        "def mean(values):\n    return sum(values) / len(values)",
        "The patient was given 40 mg twice a day and reported no side effects after two weeks.",
        "Berlin is the capital of Germany; about 3.7 million people live there.",
        "Mix the flour with the butter until it looks like crumbs, then add two spoons of cold water.",
        "The committee will meet again in March to vote on the new rules for cyclists.",
        "A watchdog timer restarts the device when the software stops responding.",
        "What is the difference between a violin and a viola?",
        "The glacier has retreated by more than a kilometre since it was first measured.",
        "Please find attached the minutes of yesterday's meeting; comments are welcome until Friday.",
        "In the second half the home team scored twice within three minutes.",
        "SELECT name, price FROM products WHERE stock > 0 ORDER BY price LIMIT 10;",
        "He had learned to play chess from his grandmother, who never let him win.",
        "The museum is open from ten to six, except on Mondays and public holidays.",
        "Quantization stores each weight of a network with fewer bits, at the price of a small error.",
        "Turn left at the bakery, cross the bridge, and you will see the station on your right.",
        "The price of coffee beans doubled after frost destroyed much of the harvest in Brazil.",
        "I have been waiting for forty minutes and nobody has answered my call.",
        "Whales are mammals: they breathe air and feed their calves with milk.",
        "The function returns an error when the file is missing or cannot be read.",
    ]
}
